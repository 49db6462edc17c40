"""A DICOM node between scanner and archive: it receives series and sends the results to the radiologists' systems.

::

    scp (C-STORE)          ─┐                                                   ┌▶ scu, dicomweb (C-STORE, STOW-RS)
    query_retrieve (priors) ┼▶ spool ─▶ completion ─▶ rules ─▶ job_queue ─▶ outbox ┤
    dicomweb (polling)     ─┘                                                   └▶ notices (webhook, HL7 v2, FHIR)

The node answers a C-STORE with success only when the instance is on the disk and in the database. It shares jobs,
studies, results and worklist with the web application (:mod:`strokeseg.web`).
"""
