"""How a run goes: the stages of a group in one actor, and what errors mean."""
