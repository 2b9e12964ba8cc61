"""`from caffe.draw import ...`"""

import sys

from caffepy.show import draw

sys.modules[__name__] = draw
