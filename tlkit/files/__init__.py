"""Bytes in and out: weights and archives, downloads and mirrors, folders here and on object storage."""
