"""What becomes of a sample: it waits in an outbox until the uploader's thread has sent it."""
