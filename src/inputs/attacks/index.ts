// The attacks, by the names that they are called by: one file each, and a line here.
export { type ApgdOptions, apgd } from "./apgd.js";
export { type AutoAttackOptions, autoAttack } from "./auto-attack.js";
export { type CarliniWagnerOptions, carliniWagner } from "./carlini-wagner.js";
export type { AttackLoss, Classifier } from "./classifier.js";
export { type DeepFoolOptions, deepFool } from "./deep-fool.js";
export { type FabOptions, fab } from "./fab.js";
export { type FgsmOptions, fgsm } from "./fgsm.js";
export { type PgdOptions, pgd } from "./pgd.js";
export type { HostBatch, SearchAttack, SearchResult } from "./search-attack.js";
export { type SquareOptions, square } from "./square.js";
