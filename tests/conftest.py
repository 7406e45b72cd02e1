from hypothesis import settings

# A deadline is a timed test: on a busy machine it fails for no fault of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
