"""Ends after as many milliseconds as its argument says."""

import sys
import time

time.sleep(float(sys.argv[1]) / 1000)
