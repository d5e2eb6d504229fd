"""The REST API: what comes over HTTP is checked here and handed to the verbs and the store."""
