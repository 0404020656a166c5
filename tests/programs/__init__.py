"""Our readers of other programs' files against those programs, run from the lab's image as root.

`make acceptance` has them, so that the image is built where it is missing: nothing here is skipped.
What a computer's own programs can say without root is in tests/unit/test_real_programs.py.
"""
