// Measurements (webgpu/tuning.ts) in a browser: one record of a database of the page's origin, which workers read, too.
// What is stored may be of another version or of anybody on the origin, so it is looked at before it is used.
import type { Measurements, TuningStore } from "../webgpu/tuning.js";

const NAME = "kilograd";
const [STORE, KEY] = ["tuning", "measurements"];

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Runs `use` on the store of a database that is open meanwhile. */
async function within<T>(mode: IDBTransactionMode, use: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const opening = indexedDB.open(NAME, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  const database = await settled(opening);
  try {
    return await settled(use(database.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    database.close();
  }
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isMeasurement = (value: unknown) =>
  isRecord(value) && Array.isArray(value["options"]) && value["options"].includes(value["chosen"]);

export const webStore: TuningStore = {
  machine: "this browser",
  async read() {
    const stored: unknown = (await within("readonly", (store) => store.get(KEY))) ?? {};
    if (!isRecord(stored)) return {};
    const machines = Object.entries(stored).filter(
      ([, found]) => isRecord(found) && Object.values(found).every(isMeasurement),
    );
    return Object.fromEntries(machines) as Measurements;
  },
  async write(measurements) {
    await within("readwrite", (store) => store.put(measurements, KEY));
  },
};
