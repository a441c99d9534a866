"""The Common Expression Language over Python values, evaluated lazily and within bounds.

`everwhen.expressions.cel.syntax` reads a text, with the parser of Google's CEL implementation, into
a tree; `everwhen.expressions.cel.compiler` makes functions of it. What values are, and what
operators and functions do with them, is defined by the other modules. Nothing here knows a store.
"""
