"""The async flavour. The sync one in ``everwhen._sync`` is generated from it (tools/unasync.py).

Only ``seam.py`` is written by hand in both: it holds the few things in which waiting in an event
loop and waiting in a thread really differ.
"""
