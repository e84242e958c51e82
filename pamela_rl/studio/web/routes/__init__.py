"""The requests, by what they are about; what is in ``router`` needs a person, what is in ``public`` does not."""
