<<<<<<<< HEAD:frontend-dist/assets/browser-CubfBPWM.js
import{t as e}from"./worker-DbMUkc9s.js";var t=/* @__PURE__ */ e(((e,t)=>{t.exports=function(){throw Error(`ws does not work in the browser. Browser clients must use the native WebSocket object`)}}));export default t();
========
import{t as e}from"./worker-DUh4X1m9.js";var t=/* @__PURE__ */ e(((e,t)=>{t.exports=function(){throw Error(`ws does not work in the browser. Browser clients must use the native WebSocket object`)}}));export default t();
>>>>>>>> wallet:frontend-dist/assets/browser-CYFvkEVD.js
