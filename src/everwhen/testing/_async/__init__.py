"""The testing kit's async flavour; the sync one in ``everwhen._sync_testing`` is generated.

By hand in both is ``seam.py``; ``cancelling.py`` is about tasks and exists only here.
"""
