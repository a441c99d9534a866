"""The Common Expression Language over Python values, evaluated lazily and within bounds.

`everwhen.cel.syntax` reads a text, with the parser of Google's CEL implementation;
`everwhen.cel.compiler` makes functions of what was read; `everwhen.cel.values` and
`everwhen.cel.functions` say what operators and functions do. Nothing here knows a store.
"""
