"""What goes over HTTP: schemas, pictures, problems, content types and the OpenAPI document."""
