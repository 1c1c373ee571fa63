SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  filter: true,
  deepLinking: true,
  persistAuthorization: true,
  // It would ask a server elsewhere.
  validatorUrl: null,
});
