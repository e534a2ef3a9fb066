// Vite makes style sheets of these imports.
declare module "*.css";
