"""Caffe's layers, one small file a layer or family; importing a file registers its types."""
