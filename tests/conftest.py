from hypothesis import settings

# A test that takes longer on a busy machine is not a wrong one.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
