"""Places that footage is pulled from: file servers, object stores, folders and cameras.

Belongs here: reaching them, safely, and deciding what may be taken. Not here: remembering what was taken
(``storage/pulled.py``) and handing it on (``outwatch/pipeline/pull.py``).
"""
