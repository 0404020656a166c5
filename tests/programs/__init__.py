"""Our readers of other programs' files against those programs, run from the lab's image as root.

`make acceptance` has them, so that the image is built where it is missing: nothing here is skipped.
What a computer's own programs can say without root is in tests/unit/test_real_programs.py.

There is no reader, and so nothing to compare, where the program itself is asked or nothing is
judged: apt's pins (undo has apt read them), modules-load.d (no other file hides ours in /etc), the
mounts of this moment (findmnt). No program can be asked on Raspberry Pi's config.txt, of which
facts/kernel.py reads two settings by its documentation, nor on how a kernel splits its command
line.
"""
