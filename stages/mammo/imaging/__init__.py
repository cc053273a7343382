"""Reading of image and DICOM files, canonicalisation, and properties of images."""
