"""Checks, on its own, that a commit stands in a signed history.

This package needs the standard library and ``cryptography``, and nothing of Everwhen: copy the
folder and run ``python -m everwhen_verify PROOF POLICY`` where neither the store's operator nor
Everwhen is trusted. All that goes into a verdict is in these few modules:

    merkle       RFC 6962 trees: roots, inclusion and consistency
    tiles        the tree cut into files (C2SP tlog-tiles)
    entries      what a commit looks like as a leaf
    notes        texts with signatures (C2SP signed-note, tlog-cosignature)
    checkpoints  signed tree heads (C2SP tlog-checkpoint)
    policy       whose signatures are needed (C2SP tlog-policy)
    proofs       a proof in a file (C2SP tlog-proof), and the verdict
    rollover     a log's keys: how one hands over to the next, and which signs what
    program      the command line
"""
