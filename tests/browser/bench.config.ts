import config from "./playwright.config.ts";

// Measures instead of testing: by name only, on a machine that does nothing else.
export default { ...config, testMatch: "*.bench.ts", projects: config.projects?.slice(0, 1), retries: 0 };
