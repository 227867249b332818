"""All breaks: importing this has each module of defects add its own."""

from . import alphabet_defects, defects, delegation_defects, thread_defects, told_defects

__all__ = ["BREAKS"]

MODULES = (defects, thread_defects, delegation_defects, told_defects, alphabet_defects)
BREAKS = defects.BREAKS
