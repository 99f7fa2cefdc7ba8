"""The exported model: building, checking, opening and using it."""
