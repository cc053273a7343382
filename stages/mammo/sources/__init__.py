"""Sources of mammograms: own folders, Kaggle, phantoms."""
