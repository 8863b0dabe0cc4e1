"""The sync: from the supplier to a published version, with a report of what happened.

``service`` runs one, using the other modules. Nothing is imported here: ``reporting`` is needed without the rest.
"""
