"""What goes over HTTP: requests, answers, pictures, problems, content types and the OpenAPI document."""
