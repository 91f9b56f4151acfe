"""The fixed parts of the HTML report: its style and its few lines of script. Nothing here comes from a database."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b2430;--soft:#5a6675;--line:#dfe3e9;--code:#f2f4f7;
--critical:#b3261e;--warning:#9a5b00;--info:#2f6398;--good:#2b6e3f;--bar:#4a7fb5;--bar2:#a9c4df;--focus:#1a5fb4}
@media (prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1a2028;--ink:#e4e8ee;--soft:#9aa6b4;--line:#2c3541;
--code:#11161d;--critical:#ff8a80;--warning:#f0b45a;--info:#86b6e8;--good:#7fcf97;--bar:#5b93cc;--bar2:#33506e;
--focus:#8ab8ff}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main,header,footer{max-width:1040px;margin:0 auto;padding:0 20px}
header{padding-top:36px}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .2rem;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:0;letter-spacing:-.005em}
p{margin:.4rem 0}
.soft{color:var(--soft)}
.verdict{font-size:1.05rem;margin:.9rem 0 0;padding-left:.8rem;border-left:4px solid var(--tone)}
.critical{--tone:var(--critical)}.warning{--tone:var(--warning)}.info{--tone:var(--info)}.good{--tone:var(--good)}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:12px;margin:22px 0}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:10px}
.tile{padding:14px 16px;color:inherit;text-decoration:none;display:block}
a.tile:hover{border-color:var(--tone)}
.tile b{display:block;font-size:1.75rem;line-height:1.2;font-weight:650;color:var(--tone,var(--ink));
font-variant-numeric:tabular-nums}
.tile.none b{color:var(--soft)}
.tile span{color:var(--soft);font-size:.9rem}
.card{padding:18px 20px;margin:0 0 16px}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:16px}
.pair .card{min-width:0}
svg{display:block;width:100%}
.chart{height:120px;margin:12px 0 4px;border-bottom:1px solid var(--line)}
.f-critical{fill:var(--critical)}.f-warning{fill:url(#hatched)}.f-info{fill:url(#dotted)}
.p-warning{fill:var(--warning)}.p-info{fill:var(--info)}.p-pale{fill:var(--info);opacity:.25}.p-bar2{fill:var(--bar2)}
.p-paper{fill:var(--card)}.patterns{position:absolute}.limit{stroke:var(--ink);stroke-width:2;vector-effect:non-scaling-stroke}
.plot{display:grid;grid-template-columns:auto minmax(0,1fr);gap:0 8px;margin:12px 0 4px}
.plot .chart{margin:0}.plot .ends{grid-column:2;margin:2px 0 0}
.axis{display:flex;flex-direction:column;justify-content:space-between;text-align:right;margin:0;color:var(--soft);
font-size:.78rem;line-height:1;font-variant-numeric:tabular-nums}
.full{border:1px solid var(--line)}.sizes small{display:block;font-size:.78rem}
.plain{margin:.3rem 0 .6rem;padding:0 0 0 1.1rem}h3{font-size:.95rem;margin:.6rem 0 0}
.area{fill:var(--bar);opacity:.18}.linep{fill:none;stroke:var(--bar);stroke-width:2;vector-effect:non-scaling-stroke}
.f-bar{fill:var(--bar)}.f-bar2{fill:url(#striped)}
.ends{display:flex;justify-content:space-between;gap:1rem;color:var(--soft);font-size:.82rem}
.key{display:flex;flex-wrap:wrap;gap:.2rem 1rem;color:var(--soft);font-size:.85rem;margin:.5rem 0 0;padding:0;
list-style:none}
.key .mark{display:inline-block;width:.8em;height:.8em;margin-right:.4em;vertical-align:-.05em}
.sizes{margin:.8rem 0 0}
.sizes>div{display:grid;grid-template-columns:minmax(0,15rem) 1fr 5.5rem;gap:.1rem 1rem;align-items:center;
padding:.18rem 0}
.sizes dt,.sizes dd{margin:0;overflow-wrap:anywhere;min-width:0}
.sizes .n{text-align:right;font-variant-numeric:tabular-nums;color:var(--soft);font-size:.9rem;white-space:nowrap}
.bar{height:12px;border-radius:3px}
.head{display:flex;align-items:baseline;gap:.6rem;margin:28px 0 10px;flex-wrap:wrap}
.count{color:var(--tone);font-weight:650;font-variant-numeric:tabular-nums}
.head button{margin-left:auto}
details{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--tone);border-radius:8px;
margin:0 0 8px}
summary{cursor:pointer;padding:11px 14px;list-style:none;display:grid;grid-template-columns:1fr auto;gap:.1rem .8rem;
align-items:baseline}
summary::-webkit-details-marker{display:none}
summary::after{content:"+";grid-column:2;grid-row:1;color:var(--soft);font-size:1.1rem;line-height:1}
details[open]>summary::after{content:"\\2212"}
summary .what{overflow-wrap:anywhere}
summary code{grid-column:1/-1;grid-row:2;color:var(--soft);font-size:.8rem;background:none;padding:0}
.body{padding:0 14px 14px;border-top:1px solid var(--line)}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.86rem}
code{overflow-wrap:anywhere}
pre{margin:0;padding:12px 14px;background:var(--code);border-radius:7px;white-space:pre-wrap;
overflow-wrap:anywhere}
.sql{margin:.7rem 0 0}
.sql>div{display:flex;align-items:center;justify-content:space-between;gap:1rem;font-size:.85rem;color:var(--soft);
margin-bottom:.3rem}
button{font:inherit;font-size:.85rem;color:inherit;background:var(--card);border:1px solid var(--line);
border-radius:6px;padding:.2rem .7rem;cursor:pointer;white-space:nowrap}
button:hover{border-color:var(--soft)}
:focus-visible{outline:3px solid var(--focus);outline-offset:2px;border-radius:6px}
.facts{display:grid;grid-template-columns:fit-content(16rem) minmax(0,1fr);gap:.15rem 1rem;
margin:.6rem 0 0;font-size:.92rem}
.facts dt{color:var(--soft);overflow-wrap:anywhere;min-width:0}.facts dd{margin:0;overflow-wrap:anywhere;min-width:0}
.skip{position:absolute;left:-999px}.skip:focus{position:static}
footer{padding-top:8px;padding-bottom:40px;font-size:.85rem}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th{text-align:left;font-weight:600;color:var(--soft);padding:.3rem .6rem .3rem 0}
.card{overflow-x:auto}
td{padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere;vertical-align:top}
@media (max-width:700px){.tiles{grid-template-columns:1fr 1fr}.pair{grid-template-columns:1fr;gap:0}
header{padding-top:22px}h1{font-size:1.4rem}main,header,footer{padding-left:14px;padding-right:14px}
.sizes>div{grid-template-columns:minmax(0,1fr) max-content}
.sizes .b{grid-column:1/-1;grid-row:2}.tile b{font-size:1.4rem}
.facts{grid-template-columns:1fr}.facts dd{margin-bottom:.3rem}}
@media print{body{background:#fff;font-size:11pt}button,.skip{display:none!important}
details,.card,.tile{break-inside:avoid;border-color:#bbb}main,header,footer{max-width:none;padding:0}
summary::after{content:""!important}}
"""

SCRIPT = """
(function(){
var all=function(q,r){return Array.prototype.slice.call((r||document).querySelectorAll(q))};
function put(text,done){
 function old(){var a=document.createElement('textarea');a.value=text;a.setAttribute('readonly','');
  a.style.position='fixed';a.style.opacity='0';document.body.appendChild(a);a.select();
  var ok=false;try{ok=document.execCommand('copy')}catch(e){}document.body.removeChild(a);done(ok)}
 if(navigator.clipboard&&window.isSecureContext){navigator.clipboard.writeText(text).then(function(){done(true)},old)}
 else{old()}}
all('button[data-copy]').forEach(function(b){b.hidden=false;b.addEventListener('click',function(){
 var code=b.closest('.sql').querySelector('code');
 put(code.textContent,function(ok){b.textContent=ok?'Copied':'Press Ctrl+C';
  if(!ok){var r=document.createRange(),s=getSelection();r.selectNodeContents(code);s.removeAllRanges();s.addRange(r)}
  setTimeout(function(){b.textContent='Copy'},2000)})})});
all('button[data-all]').forEach(function(b){var d=all('details',b.closest('section'));
 function closed(){return d.some(function(x){return!x.open})}
 function label(){b.textContent=closed()?'Open all':'Close all'}
 b.hidden=false;label();d.forEach(function(x){x.addEventListener('toggle',label)});
 b.addEventListener('click',function(){var open=closed();d.forEach(function(x){x.open=open})})});
var shut=[];
addEventListener('beforeprint',function(){shut=all('details:not([open])');shut.forEach(function(d){d.open=true})});
addEventListener('afterprint',function(){shut.forEach(function(d){d.open=false});shut=[]});
})();
"""
