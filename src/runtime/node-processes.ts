// Whether a process of this machine is there, by which locks and temporary files tell whether somebody still writes.
import { readFileSync } from "node:fs";

/** Fields of a process after its name (proc(5): state is field 3); undefined where there is no /proc, or no process. */
function fieldsOf(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The second field is a name in parentheses, which may hold anything.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined; // Another system, or no such process: that is asked for otherwise.
  }
}

/** Ticks since the machine's start at which a process began (proc(5), field 22); undefined where there is no /proc. */
export const beginOf = (pid: number): string | undefined => fieldsOf(pid)?.[19];

/**
 * Whether a process of this number runs. A number that was given anew counts as running. One that was killed and whose
 * parent never asked for its end, as in a container without an init process, does not.
 */
export function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid < 1) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"; // alive, but of another user
  }
  const state = fieldsOf(pid)?.[0];
  return state !== "Z" && state !== "X";
}
