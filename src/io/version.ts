/** Of this package; files that it writes may say it. */
export const VERSION = "0.1.0";
