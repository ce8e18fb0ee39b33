"""Etude: the ideas of deep learning for vision as pure JAX functions.

The repository is the package: the rooms beside this file are `etude.models`, `etude.train` and so on, each imported by
name. Only what concerns the package as a whole stands here, so that `import etude` brings no library with it.
"""

__version__ = "0.2.0"
