"""`from caffe.io import ...`"""

import sys

from caffepy.pycaffe import io

sys.modules[__name__] = io
