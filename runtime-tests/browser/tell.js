import { check } from "../check.js";

/** Runs the check and sends what came of it. */
export async function tell(where) {
  const result = await check().catch((error) => ({ failure: String(error?.stack ?? error) }));
  await fetch(`/result/${where}`, { method: "POST", body: JSON.stringify(result) });
}
