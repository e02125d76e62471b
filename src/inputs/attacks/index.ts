// The attacks, by the names that they are called by: one file each, and a line here.
export { type FgsmOptions, fgsm } from "./fgsm.js";
export { type PgdOptions, pgd } from "./pgd.js";
