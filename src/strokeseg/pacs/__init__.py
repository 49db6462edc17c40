"""A node between scanner and archive: series come in by DICOM, results go out to where radiologists look.

::

    receive ─┐                                             ┌▶ send (C-STORE, STOW-RS)
    fetch  ──┼▶ spool ─▶ arrival ─▶ rules ─▶ serve's jobs ─┤
    poll   ──┘                                             └▶ notice (webhook, HL7 v2, FHIR)

What a sender is told has been stored lies on the disk and in the database. Jobs, studies and results are those of
:mod:`strokeseg.web`: one store, one worklist.
"""
