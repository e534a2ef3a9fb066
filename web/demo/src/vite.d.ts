// What Vite adds to modules. It makes style sheets of these imports.
declare module "*.css";

interface ImportMeta {
  readonly env: { readonly PROD: boolean };
}
