"""HTTP in: authenticate, validate, start or signal a workflow, read storage. No decisions about money here."""
