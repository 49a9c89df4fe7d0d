"""How a run goes: session, driver, graph, actors, writer, progress, and what errors mean."""
