// Bytes in messages.

/** "1f 8b". */
export function hex(bytes: ArrayLike<number>): string {
  return bytes.length === 0 ? "(nothing)" : Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
