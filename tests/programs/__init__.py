"""Compare our readers of other programs' files with those programs, from the lab's image, as root.

`make acceptance` runs these tests, and builds the image if it is missing. So none is skipped.
tests/unit/test_real_programs.py compares with this computer's own programs, without root.

There is no reader, and nothing to compare, where we ask the program itself or need not know: apt's
pins (undo has apt read them), modules-load.d (no other file hides ours in /etc), current mounts
(findmnt). There is no program to ask about Raspberry Pi's config.txt, of which facts/kernel.py
reads two settings by its documentation, nor about how a kernel splits its command line.
"""
