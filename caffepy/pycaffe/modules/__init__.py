"""Where `caffe.io`, `caffe.draw` and the like are found: caffepy's `__path__` ends here."""
