import js from "@eslint/js";

const browser = "document window location history navigator fetch getComputedStyle matchMedia performance requestAnimationFrame Event MutationObserver IntersectionObserver CSS crypto Blob";
const both = "URL URLSearchParams setTimeout clearTimeout";
const globals = (names) => Object.fromEntries(names.split(" ").map((name) => [name, "readonly"]));

export default [
  { ignores: ["**/vendor/**"] },
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: globals(both) },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: "error",
      "no-var": "error",
      "prefer-const": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-shadow": "error",
      "no-param-reassign": "error",
      "no-use-before-define": ["error", { functions: false, variables: false }],
      "max-lines": ["error", 400],
      "max-lines-per-function": ["error", { max: 80, skipBlankLines: true }],
      // Text is always set as text: names come from users and apps.
      "no-restricted-properties": ["error", { property: "innerHTML" }, { property: "outerHTML" }, { property: "insertAdjacentHTML" }],
    },
  },
  { files: ["airflow_provider_axtx/plugin/static/**"], languageOptions: { globals: globals(browser) } },
];
