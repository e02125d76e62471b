// How the pages are built: static files that work from any host under any path, without a server of their own.
import { readdirSync } from "node:fs";
import { defineConfig } from "vite";

const pages = readdirSync(import.meta.dirname).filter((name) => name.endsWith(".html"));

export default defineConfig({
  root: import.meta.dirname,
  // Paths are relative to the page.
  base: "./",
  build: {
    outDir: "dist",
    emptyOutDir: true,
    target: "es2023",
    // Its polyfill would be for browsers without WebGPU.
    modulePreload: { polyfill: false },
    // A page whose policy forbids data: loads files.
    assetsInlineLimit: 0,
    rolldownOptions: { input: pages.map((name) => `${import.meta.dirname}/${name}`) },
  },
  worker: { format: "es" },
});
