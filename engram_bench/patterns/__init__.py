"""Pattern files: read and checked (``load``), turned into cases (``expand``) and into training examples (``render``).

Importing this package imports neither PyYAML nor pydantic; ``load`` and ``schema`` do.
"""
