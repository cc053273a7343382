"""Where mammograms come from: own folders, Kaggle, phantoms."""
