"""The testing kit's async flavour; the sync one in ``everwhen.testing._sync`` is generated.

By hand in both is ``concurrency.py``; ``cancelling.py`` is about tasks and exists only here.
"""
