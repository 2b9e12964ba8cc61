"""`from caffe.net_spec import ...`"""

import sys

from caffepy.net import spec

sys.modules[__name__] = spec
