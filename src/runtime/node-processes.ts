// Whether a process of this machine is there, by which temporary files tell whether somebody still writes them.

/** Whether a process of this number runs. A number that was given anew counts as running. */
export function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid < 1) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"; // alive, but of another user
  }
}
