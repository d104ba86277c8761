"""Codes of an InfoGAN for segmented cells, in napari."""
