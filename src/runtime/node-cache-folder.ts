// Where data that can be had again is kept between runs.
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

/**
 * `$XDG_CACHE_HOME/kilograd`, else `~/.cache/kilograd` (a relative XDG_CACHE_HOME is ignored, as its standard asks).
 */
export function cacheFolder(): string {
  const xdg = process.env["XDG_CACHE_HOME"];
  return join(xdg && isAbsolute(xdg) ? xdg : join(homedir(), ".cache"), "kilograd");
}
