"""What says what: the job, the profile, the chain of stages that follows from them, and the recipe that is digested."""
